package weights

import _ "embed"

var (
	//go:embed rows.hip
	rowsHIP string
	//go:embed multiply.hip
	multiplyHIP string
	//go:embed product.hip
	productHIP string
)

// RowsSource returns the HIP side of [Rows]: it decodes rows of a [Matrix]. It
// goes before the source of a kernel that does.
func RowsSource() string { return rowsHIP }

// MultiplySource returns [RowsSource] and the HIP side of [Rows.Multiply64], for
// kernels that multiply.
func MultiplySource() string { return rowsHIP + multiplyHIP }
