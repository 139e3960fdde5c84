"""What every room stands on: values, configuration, tasks, workers, languages."""
