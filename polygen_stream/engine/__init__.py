"""Engines: the parts of a generator, compiled. One flow for every backend.

record (what the pipeline really calls) -> export (ONNX) -> compile -> parity with eager -> publish in the cache ->
runtime module that the diffusers pipeline takes in place of the torch module.
"""
