"""``download_models.sh``: runs before anything is installed, so it imports the standard library and itself only."""
