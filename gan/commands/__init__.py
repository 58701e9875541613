"""One file per verb: its arguments, its output, its exit status. What it does is elsewhere."""
