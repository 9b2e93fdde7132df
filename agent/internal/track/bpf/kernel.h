/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The few kernel types and BPF helpers that the tracker needs. Fields are found at load time through the
 * running kernel's BTF (preserve_access_index), so the order and the gaps here mean nothing. */
#ifndef REHOST_KERNEL_H
#define REHOST_KERNEL_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk; /* from 5.17 */
};

struct bvec_iter {
	u64 bi_sector;
	u32 bi_size;
};

struct bio {
	struct bio *bi_next;
	struct bvec_iter bi_iter;
};

struct request {
	struct request_queue *q;
	u32 cmd_flags;
	u32 __data_len;
	u64 __sector;
	struct bio *bio;
};

/* Until 5.16 the request itself names its disk. The suffix after three underscores is dropped when the name is looked up. */
struct request___with_disk {
	struct gendisk *rq_disk;
};

#pragma clang attribute pop

#define barrier() asm volatile("" ::: "memory")
#define SEC(name) __attribute__((section(name), used))
#define field_exists(field) __builtin_preserve_field_info(field, 2)

#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PERCPU_ARRAY = 6 };
enum { BPF_F_MMAPABLE = 1 << 10 };

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static long (*bpf_probe_read)(void *to, u32 size, const void *from) = (void *)4;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;

#endif
