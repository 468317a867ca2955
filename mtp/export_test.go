package mtp

// What tests of configs see besides: the rules, the model types, and what the config says
// of quantization.
const (
	RuleSyntax       = ruleSyntax
	RuleDuplicateKey = ruleDuplicateKey
	RuleMissingKey   = ruleMissingKey
	RuleWrongType    = ruleWrongType
	RuleOutOfRange   = ruleOutOfRange
	RuleInconsistent = ruleInconsistent
	RuleUnsupported  = ruleUnsupported

	ModelTypeBundled = modelBundled
	ModelTypeM3      = modelM3
	ModelTypeText    = modelText
	ModelTypeMTP     = modelMTP
	ModelTypeVLText  = modelVLText
)

var (
	ErrPattern = errPattern
	ErrToken   = errToken
)

// QuantizationSays returns the method that the config names, and whether it has a
// quantization_config.
func (c *Config) QuantizationSays() (method string, ok bool) {
	if c.quantization == nil {
		return "", false
	}
	return c.quantization.method, true
}

// QuantizationNotes are the notes on quantization_config.
func (c *Config) QuantizationNotes() []string { return c.quantization.notes() }

func (c *Config) DropQuantization() { c.quantization = nil }

// Ignored reports whether entries of ignored_layers exempt a module.
func Ignored(entries []string, module string) (bool, error) {
	m, err := newIgnoredModules(entries)
	if err != nil {
		return false, err
	}
	return m.ignored(module)
}

// IgnoredLayers are the entries that are compared with what is stored.
func (c *Config) IgnoredLayers() []string { return c.quantization.ignoredLayers }
