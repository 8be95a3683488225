"""What everything else uses: params, errors, files. It imports no other folder of bertpipe."""
