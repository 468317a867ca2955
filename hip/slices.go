package hip

import "unsafe"

// WriteOf copies values to p.
func WriteOf[T any](d Device, p Ptr, values []T) error {
	return d.Write(p, bytesOf(values))
}

// ReadOf copies from p into values.
func ReadOf[T any](d Device, values []T, p Ptr) error {
	return d.Read(bytesOf(values), p)
}

// Upload allocates memory for values and copies them there.
func Upload[T any](d Device, values []T) (Ptr, error) {
	p, err := d.Alloc(int64(len(bytesOf(values))))
	if err != nil {
		return 0, err
	}
	if err := WriteOf(d, p, values); err != nil {
		if d.Free(p) != nil {
			d.Free(p) // once more; the error that counts is the write's
		}
		return 0, err
	}
	return p, nil
}

// bytesOf returns the memory of values, in the machine's byte order, which is
// little-endian on everything that runs this library's devices.
func bytesOf[T any](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(values[0])))
}
