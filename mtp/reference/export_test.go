package reference

// Modules returns the modules that gave the drafts.
func (d *Drafts) Modules() []int { return d.modules }
