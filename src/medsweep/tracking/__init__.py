"""The run logs → MLflow."""
