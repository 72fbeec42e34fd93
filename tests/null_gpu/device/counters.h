// What a process did with the devices. tests/helpers/null_gpu.py reads the same names in the same order.
#pragma once
#include <atomic>

struct Counters {
    std::atomic<long> kernels;              // launched, none of which ran; cuBLAS and cuDNN not included
    std::atomic<long> waits;                // calls in which the host waits for a device
    std::atomic<long> copies_in;            // from the host to a device
    std::atomic<long> bytes_in;
    std::atomic<long> pageable_copies_in;   // of these, from memory that is not pinned
    std::atomic<long> pageable_bytes_in;
    std::atomic<long> copies_out;           // from a device to the host
    std::atomic<long> bytes_out;
    std::atomic<long> allocated;            // bytes that are allocated now, on all devices together
    std::atomic<long> peak;                 // the most that has been
    std::atomic<long> collectives;          // of NCCL
};

extern Counters& counters;
