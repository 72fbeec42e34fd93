"""Transfer: pictures of the micro world's things that others drew, and the test on them."""
