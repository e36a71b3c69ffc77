"""What a run is given and what it leaves: parameters, typed rows, the record, the run itself."""
