"""Charts as such: drawing, curves, themes, pictures, pages of charts."""
