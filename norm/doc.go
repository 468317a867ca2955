// Package norm is Gemma RMSNorm: plain, strided, and fused with the residual
// addition before it. [RMS64] is the definition and [RMS32] its fast
// counterpart, for twins that normalise as part of something larger.
package norm
