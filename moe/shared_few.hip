// y[row][j] = act(w[j] · x[row], w[Out+j] · x[row]), one tile of columns a block. The twin
// is gateUpSwiGLUTwin.

KERNEL(multiplyThreads) void gate_up_swiglu(gateUpSwiGLUArgs a) { multiplyShared<4>(a); }

// gate_up_swiglu_one is gate_up_swiglu for one row of x.
KERNEL(multiplyThreads, oneRowBlocks) void gate_up_swiglu_one(gateUpSwiGLUArgs a) { multiplyShared<1>(a); }
