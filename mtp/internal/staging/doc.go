// Package staging carries the numbers of a call to a device, [Up], and its results back,
// [Down]. Where host and kernels share memory (a GPU's AllocShared), a copy is a launch, which a
// graph records with the others; elsewhere it is one Write or Read.
package staging
