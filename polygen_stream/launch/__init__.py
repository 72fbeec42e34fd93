"""Starting, watching and ending the processes of a run.

`plan` decides what to start, `supervise` starts and watches it, `guardian` cleans up when the supervisor
itself is killed. Nothing here imports a role: roles are started by command line, possibly under another
interpreter.
"""
