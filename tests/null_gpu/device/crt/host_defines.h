// What the headers of the CUDA runtime ask of a compiler. NVIDIA's own file comes with nvcc; a host compiler needs little.
#pragma once
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define CUDART_CB
#define __CUDA_DEPRECATED
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#define __cluster_dims__(...)
#define __cudart_builtin__
#define __device__
#define __device_builtin__
#define __device_builtin_surface_type__
#define __device_builtin_texture_type__
#define __dv(value)
#define __forceinline__ inline
#define __host__
#define __location__(place)
#define __noinline__ __attribute__((noinline))
#define __specialization_static static
