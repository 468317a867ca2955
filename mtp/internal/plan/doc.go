// Package plan turns a draft rule into steps: which module runs over which rows, with
// which tokens and hidden states, and what comes of it. A plan is data; nothing here
// knows a device.
//
//	row        a position of a sequence, with the token after it and a hidden state
//	confirmed  a row whose token the target has chosen; the others carry drafts
//	span       consecutive rows of one sequence
//	step       one run of one module over a span of each sequence that takes part
//	layer      the layer of the cache that a step writes
//	draft      a token picked from a row; drafts of a call are numbered from 0
//	source     where a row's hidden state comes from: a row of the step before, or one
//	           that the sequence carried from the call before
//	pick       a row that a token is drafted from
//	keep       a row whose hidden state the sequence carries to the next call
package plan
