"""Models as files: their format, finding them by name, download from and publication on the Hugging Face Hub."""
