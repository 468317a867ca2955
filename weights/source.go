package weights

import _ "embed"

var (
	//go:embed rows.hip
	rowsHIP string
	//go:embed codecs.hip
	codecsHIP string
	//go:embed multiply.hip
	multiplyHIP string
	//go:embed multiply_few.hip
	multiplyFewHIP string
	//go:embed tiles.hip
	tilesHIP string
	//go:embed product.hip
	productHIP string
	//go:embed product_tiled.hip
	productTiledHIP string
)

// RowsSource returns the HIP side of [Rows]: it decodes rows of a [Matrix]. It
// goes before the source of a kernel that does.
func RowsSource() string { return rowsHIP }

// MultiplySource returns [RowsSource] and the HIP side of [Rows.Multiply64], for
// kernels that multiply.
func MultiplySource() string { return rowsHIP + codecsHIP + multiplyHIP + multiplyFewHIP }

// TilesSource returns [MultiplySource] and multiplication on matrix units, for kernels
// that multiply many rows of x.
func TilesSource() string { return MultiplySource() + tilesHIP }
