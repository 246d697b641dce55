"""What any program of this kind needs: files, records, tensors, the machine, progress, signals."""
