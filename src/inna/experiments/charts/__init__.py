"""Charts: drawing, curves, themes, picture files, pages of charts."""
