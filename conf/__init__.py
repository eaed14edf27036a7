"""Named choices: one folder a group of `TrialConfig`, one YAML file a choice; and whole sweeps in `sweep/`."""
