// This folder is a module of its own so that what go get downloads does not hold it:
// a module's zip leaves out the modules below. Tests find it in a clone, by its path.
module github.com/drafthead/drafthead/mtp/testdata

go 1.26.0
