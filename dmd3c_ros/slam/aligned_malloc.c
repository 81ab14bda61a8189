/* Loaded before ORB-SLAM3's wheel, whose libraries disagree about memory.

   Its main library is compiled for AVX and expects 32-byte alignment, which malloc does not give;
   and Eigen in it frees what Eigen in the others, compiled without AVX, took, and the other way
   round: with AVX it keeps the block's address in the word before the aligned one. Here every
   block is aligned to 64 bytes, has its own address in the word before it, and is found again by
   that word when the aligned address within it is freed. glibc only. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ALIGNMENT 64
#define MAGIC UINT64_C(0x51a3c0de7f1e2d3b)

extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

typedef struct {
    void *base;
    size_t size;
    uint64_t magic;
    void *self;
} Head;

static Head *head_of(void *block) { return (Head *)block - 1; }

static void *take(size_t alignment, size_t size)
{
    if (alignment < ALIGNMENT)
        alignment = ALIGNMENT;
    char *base = size <= SIZE_MAX - alignment ? __libc_memalign(alignment, size + alignment) : NULL;
    if (!base) {
        errno = ENOMEM;
        return NULL;
    }
    char *block = base + alignment;
    *head_of(block) = (Head){base, size, MAGIC, block};
    /* Where the head of an aligned address within the block would be. */
    memset(block, 0, size < ALIGNMENT ? size : ALIGNMENT);
    return block;
}

void *malloc(size_t size) { return take(ALIGNMENT, size); }

void *calloc(size_t count, size_t each)
{
    size_t size;
    if (__builtin_mul_overflow(count, each, &size)) {
        errno = ENOMEM;
        return NULL;
    }
    void *block = take(ALIGNMENT, size);
    return block ? memset(block, 0, size) : NULL;
}

void *memalign(size_t alignment, size_t size) { return take(alignment, size); }

void *aligned_alloc(size_t alignment, size_t size) { return take(alignment, size); }

int posix_memalign(void **block, size_t alignment, size_t size)
{
    void *found = take(alignment, size);
    if (!found)
        return ENOMEM;
    *block = found;
    return 0;
}

void free(void *block)
{
    if (!block)
        return;
    Head *head = head_of(block);
    if (head->magic == MAGIC && head->self == block) {
        head->magic = 0;
        __libc_free(head->base);
        return;
    }
    char *outer = ((void **)block)[-1];
    ptrdiff_t inside = (char *)block - outer;
    if (inside > 0 && inside <= ALIGNMENT)
        free(outer);
}

void *realloc(void *block, size_t size)
{
    if (!block)
        return malloc(size);
    if (!size) {
        free(block);
        return NULL;
    }
    void *larger = malloc(size);
    if (larger) {
        size_t old = head_of(block)->size;
        memcpy(larger, block, old < size ? old : size);
        free(block);
    }
    return larger;
}

size_t malloc_usable_size(void *block) { return block ? head_of(block)->size : 0; }
