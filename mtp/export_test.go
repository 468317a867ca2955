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
	ErrNaN     = errNaN
	ErrInUse   = errInUse
	ErrToken   = errToken
)

// KVScales returns what an FP8 cache divides a module's keys and values by.
func (h *Head) KVScales(module int) (k, v float32) { return h.kvScales(module) }

// ParseConfig is ReadConfig of a text.
var ParseConfig = parseConfig

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
	m, err := newPatternCompiler().compile(moduleList{entries: entries, below: true})
	if err != nil {
		return false, err
	}
	return m.has(module)
}

// CompileQuantization compiles all lists of modules.
func (c *Config) CompileQuantization() error {
	_, err := c.quantization.compile()
	return err
}

// IgnoredLayers are the entries that are compared with what is stored.
func (c *Config) IgnoredLayers() []string { return c.quantization.ignored.entries }

// ConfigProblem is one problem of a config.
type ConfigProblem struct {
	Key, Got, Rule string
	Err            error
}

// ConfigProblems lists the problems of a config that err joins.
func ConfigProblems(err error) (all []ConfigProblem) {
	if e, ok := err.(*configError); ok {
		return []ConfigProblem{{e.key, e.got, e.rule, e}}
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			all = append(all, ConfigProblems(err)...)
		}
	case interface{ Unwrap() error }:
		all = ConfigProblems(e.Unwrap())
	}
	return all
}

// DraftVocabulary returns the tokens that Draft picks from, ascending; nil: all.
func (h *Head) DraftVocabulary() []int32 { return h.draftHead.vocabulary }

// Elements returns the texts of the elements of a list.
func Elements(list string) (texts []string) {
	for text := range listText(list).elements() {
		texts = append(texts, string(text))
	}
	return texts
}
