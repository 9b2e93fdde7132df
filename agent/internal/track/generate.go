package track

// The object is committed: building needs neither clang nor kernel headers. The CPU level is fixed because a newer
// clang would choose another one, and v3 is what has the atomic operations.
//go:generate go tool bpf2go -go-package track -target bpfel -cc clang -strip llvm-strip -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror" -type disk -type counts -type note -type slot track bpf/track.bpf.c

// The classic tracker runs on kernels that know v1 only.
//go:generate go tool bpf2go -go-package track -target bpfel -cc clang -strip llvm-strip -cflags "-O2 -g -mcpu=v1 -Wall -Wextra -Werror -Wno-unused-variable" -type fields classic bpf/classic.bpf.c
