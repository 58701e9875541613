"""The papers' tables: the figures they report, the runs they compare, and ours next to them."""
