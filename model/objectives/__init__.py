"""One training objective a file: a module here is a `kind:` of the `objective` group by being here."""
