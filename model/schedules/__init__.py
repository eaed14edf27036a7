"""One KL-annealing schedule a file: a module here is a `kind:` of the `schedule` group by being here."""
