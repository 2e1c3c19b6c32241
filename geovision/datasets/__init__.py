"""One adapter a data set: the files of its authors in, samples in physical units out."""
