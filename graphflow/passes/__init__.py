"""Passes over programs: each a pure function, in the order of pipeline.PIPELINE."""
