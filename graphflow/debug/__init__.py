"""Looking inside: drawings, explain, timelines."""
