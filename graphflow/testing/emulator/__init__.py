"""The PTX emulator; its face is `graphflow.testing.ptx`."""
