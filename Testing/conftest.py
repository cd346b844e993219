"""Shared by all tests: the stand-in host, started before anything else can import Qt."""

import slicerhost

slicerhost.start()
