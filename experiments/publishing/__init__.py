"""Numbers of a run as one small file, and the page of all of them."""
