"""Places to which a sweep is sent, one a file; the folder is the list of them."""
