// libcuda.so.1: what torch asks the driver itself. runtime.cpp has a function that does nothing for all else.
extern "C" {

int cuInit(unsigned) { return 0; }
int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { return *flags = 0, *active = 1, 0; }
int cuCtxGetCurrent(void** context) { return *context = reinterpret_cast<void*>(1), 0; }
int cuDevicePrimaryCtxRetain(void** context, int) { return cuCtxGetCurrent(context); }

}  // extern "C"
