package mtp

// What tests of configs see besides: the rules, the model types, and what ignored_layers
// says of a module.
const (
	RuleSyntax       = ruleSyntax
	RuleDuplicateKey = ruleDuplicateKey
	RuleMissingKey   = ruleMissingKey
	RuleWrongType    = ruleWrongType
	RuleOutOfRange   = ruleOutOfRange
	RuleInconsistent = ruleInconsistent
	RuleUnsupported  = ruleUnsupported
	RulePattern      = rulePattern

	ModelTypeBundled = modelBundled
	ModelTypeM3      = modelM3
	ModelTypeText    = modelText
	ModelTypeMTP     = modelMTP
	QuantFP8         = quantFP8
	QuantMXFP8       = quantMXFP8
)

var (
	ErrPattern = errPattern
	ErrToken   = errToken
)

type Quantization = quantization

func (c *Config) Quantization() *Quantization { return c.quantization }

func (c *Config) DropQuantization() { c.quantization = nil }

func (q *Quantization) Ignored(module string) (bool, error) { return q.ignored(module) }
