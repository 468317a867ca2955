package gpu

// call names a function of the GPU's driver or of its run-time compiler.
type call int

// The calls that a device makes. One table serves both platforms: the arguments are
// the same unless a comment says otherwise, and what differs is dealt with in
// driver.go and compiler.go.
const (
	callInit call = iota
	callVersion
	callDeviceCount
	callDeviceGet
	callDeviceName
	callDeviceMemory
	callDeviceAttribute // the numbers of attributes differ
	callGetDevice       // HIP
	callSetDevice       // HIP
	callProperties      // HIP: two layouts, see driver.architecture
	callRetainContext   // CUDA
	callReleaseContext  // CUDA
	callPushContext     // CUDA
	callPopContext      // CUDA
	callErrorText       // HIP returns the text, CUDA stores it

	callAlloc
	callFree
	callAllocAsync
	callFreeAsync
	callAllocPinned
	callFreePinned
	callDevicePointer
	callUpload
	callDownload
	callCopy
	callFill

	callStreamCreate
	callStreamDestroy
	callStreamSync
	callEventCreate
	callEventDestroy
	callEventRecord
	callEventSync
	callEventElapsed

	callModuleLoad
	callModuleUnload
	callModuleFunction
	callFunctionAttribute // CUDA
	callLaunch
	callLaunchEarly // CUDA

	callCaptureBegin
	callCaptureEnd
	callGraphInstantiate // five arguments in HIP, three in CUDA
	callGraphLaunch
	callGraphDestroy
	callGraphExecDestroy

	// What follows is of the run-time compiler.
	callCompilerVersion
	callCompilerErrorText
	callArchCount // CUDA
	callArchs     // CUDA
	callProgramCreate
	callProgramCompile
	callProgramLogSize
	callProgramLog
	callProgramCodeSize
	callProgramCode
	callProgramPTXSize // CUDA
	callProgramPTX     // CUDA
	callProgramDestroy

	numCalls
)

const firstCompilerCall = callCompilerVersion

// symbol is how a call is exported. The first of several names that a library has is taken.
// Without a name the platform lacks the call.
type symbol struct {
	hip, cuda []string
	optional  bool // a library without it is used without what needs it
}

func (s *symbol) names(platform string) []string {
	if platform == platformCUDA {
		return s.cuda
	}
	return s.hip
}

func named(names ...string) []string { return names }

var symbols = [numCalls]symbol{
	callInit:            {hip: named("hipInit"), cuda: named("cuInit")},
	callVersion:         {hip: named("hipRuntimeGetVersion"), cuda: named("cuDriverGetVersion")},
	callDeviceCount:     {hip: named("hipGetDeviceCount"), cuda: named("cuDeviceGetCount")},
	callDeviceGet:       {hip: named("hipDeviceGet"), cuda: named("cuDeviceGet")},
	callDeviceName:      {hip: named("hipDeviceGetName"), cuda: named("cuDeviceGetName")},
	callDeviceMemory:    {hip: named("hipDeviceTotalMem"), cuda: named("cuDeviceTotalMem_v2")},
	callDeviceAttribute: {hip: named("hipDeviceGetAttribute"), cuda: named("cuDeviceGetAttribute")},
	callGetDevice:       {hip: named("hipGetDevice")},
	callSetDevice:       {hip: named("hipSetDevice")},
	callProperties:      {hip: named("hipGetDevicePropertiesR0600", "hipGetDeviceProperties")},
	callRetainContext:   {cuda: named("cuDevicePrimaryCtxRetain")},
	callReleaseContext:  {cuda: named("cuDevicePrimaryCtxRelease_v2")},
	callPushContext:     {cuda: named("cuCtxPushCurrent_v2")},
	callPopContext:      {cuda: named("cuCtxPopCurrent_v2")},
	callErrorText:       {hip: named("hipGetErrorString"), cuda: named("cuGetErrorString")},

	callAlloc:         {hip: named("hipMalloc"), cuda: named("cuMemAlloc_v2")},
	callFree:          {hip: named("hipFree"), cuda: named("cuMemFree_v2")},
	callAllocAsync:    {hip: named("hipMallocAsync"), cuda: named("cuMemAllocAsync"), optional: true},
	callFreeAsync:     {hip: named("hipFreeAsync"), cuda: named("cuMemFreeAsync"), optional: true},
	callAllocPinned:   {hip: named("hipHostMalloc"), cuda: named("cuMemHostAlloc")},
	callFreePinned:    {hip: named("hipHostFree"), cuda: named("cuMemFreeHost")},
	callDevicePointer: {hip: named("hipHostGetDevicePointer"), cuda: named("cuMemHostGetDevicePointer_v2")},
	callUpload:        {hip: named("hipMemcpyHtoDAsync"), cuda: named("cuMemcpyHtoDAsync_v2")},
	callDownload:      {hip: named("hipMemcpyDtoHAsync"), cuda: named("cuMemcpyDtoHAsync_v2")},
	callCopy:          {hip: named("hipMemcpyDtoDAsync"), cuda: named("cuMemcpyDtoDAsync_v2")},
	callFill:          {hip: named("hipMemsetD8Async"), cuda: named("cuMemsetD8Async")},

	callStreamCreate:  {hip: named("hipStreamCreateWithFlags"), cuda: named("cuStreamCreate")},
	callStreamDestroy: {hip: named("hipStreamDestroy"), cuda: named("cuStreamDestroy_v2")},
	callStreamSync:    {hip: named("hipStreamSynchronize"), cuda: named("cuStreamSynchronize")},
	callEventCreate:   {hip: named("hipEventCreateWithFlags"), cuda: named("cuEventCreate")},
	callEventDestroy:  {hip: named("hipEventDestroy"), cuda: named("cuEventDestroy_v2")},
	callEventRecord:   {hip: named("hipEventRecord"), cuda: named("cuEventRecord")},
	callEventSync:     {hip: named("hipEventSynchronize"), cuda: named("cuEventSynchronize")},
	callEventElapsed:  {hip: named("hipEventElapsedTime"), cuda: named("cuEventElapsedTime_v2", "cuEventElapsedTime")},

	callModuleLoad:        {hip: named("hipModuleLoadData"), cuda: named("cuModuleLoadData")},
	callModuleUnload:      {hip: named("hipModuleUnload"), cuda: named("cuModuleUnload")},
	callFunctionAttribute: {cuda: named("cuFuncSetAttribute")},
	callModuleFunction:    {hip: named("hipModuleGetFunction"), cuda: named("cuModuleGetFunction")},
	callLaunch:            {hip: named("hipModuleLaunchKernel"), cuda: named("cuLaunchKernel")},
	callLaunchEarly:       {cuda: named("cuLaunchKernelEx"), optional: true},

	callCaptureBegin:     {hip: named("hipStreamBeginCapture"), cuda: named("cuStreamBeginCapture_v2"), optional: true},
	callCaptureEnd:       {hip: named("hipStreamEndCapture"), cuda: named("cuStreamEndCapture"), optional: true},
	callGraphInstantiate: {hip: named("hipGraphInstantiate"), cuda: named("cuGraphInstantiateWithFlags"), optional: true},
	callGraphLaunch:      {hip: named("hipGraphLaunch"), cuda: named("cuGraphLaunch"), optional: true},
	callGraphDestroy:     {hip: named("hipGraphDestroy"), cuda: named("cuGraphDestroy"), optional: true},
	callGraphExecDestroy: {hip: named("hipGraphExecDestroy"), cuda: named("cuGraphExecDestroy"), optional: true},

	callCompilerVersion:   {hip: named("hiprtcVersion"), cuda: named("nvrtcVersion")},
	callCompilerErrorText: {hip: named("hiprtcGetErrorString"), cuda: named("nvrtcGetErrorString")},
	callArchCount:         {cuda: named("nvrtcGetNumSupportedArchs"), optional: true},
	callArchs:             {cuda: named("nvrtcGetSupportedArchs"), optional: true},
	callProgramCreate:     {hip: named("hiprtcCreateProgram"), cuda: named("nvrtcCreateProgram")},
	callProgramCompile:    {hip: named("hiprtcCompileProgram"), cuda: named("nvrtcCompileProgram")},
	callProgramLogSize:    {hip: named("hiprtcGetProgramLogSize"), cuda: named("nvrtcGetProgramLogSize")},
	callProgramLog:        {hip: named("hiprtcGetProgramLog"), cuda: named("nvrtcGetProgramLog")},
	callProgramCodeSize:   {hip: named("hiprtcGetCodeSize"), cuda: named("nvrtcGetCUBINSize")},
	callProgramCode:       {hip: named("hiprtcGetCode"), cuda: named("nvrtcGetCUBIN")},
	callProgramPTXSize:    {cuda: named("nvrtcGetPTXSize")},
	callProgramPTX:        {cuda: named("nvrtcGetPTX")},
	callProgramDestroy:    {hip: named("hiprtcDestroyProgram"), cuda: named("nvrtcDestroyProgram")},
}
