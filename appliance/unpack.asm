# The 32-bit entry of a kernel that is not compressed: %esi has the boot
# parameters, paging is off, segments are flat. Sets up what the kernel's 64-bit
# entry wants (long mode, the first 4 GiB mapped one to one) and goes there.
# Page tables are in the zeros between the stub and the kernel.
.code32
start:
	cli
	cld
	leal	0x1e8(%esi), %esp		# the scratch field: a stack of one word
	call	1f
1:	popl	%ebp
	subl	$(1b - start), %ebp		# where we are
	leal	0x2000(%ebp), %esp
	leal	0x2000(%ebp), %edi		# level 4: one entry
	leal	0x3007(%ebp), %eax
	movl	%eax, (%edi)
	leal	0x3000(%ebp), %edi		# level 3: four entries
	leal	0x4007(%ebp), %eax
	movl	$4, %ecx
2:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x1000, %eax
	loop	2b
	leal	0x4000(%ebp), %edi		# level 2: 2048 pages of 2 MiB
	movl	$0x83, %eax
	movl	$2048, %ecx
3:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	loop	3b
	leal	(gdt - start)(%ebp), %eax
	movl	%eax, (gdtr - start + 2)(%ebp)
	lgdt	(gdtr - start)(%ebp)
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%cr4, %eax
	orl	$0x20, %eax			# PAE
	movl	%eax, %cr4
	leal	0x2000(%ebp), %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx		# EFER
	rdmsr
	btsl	$8, %eax			# LME
	wrmsr
	pushl	$0x10
	leal	(long - start)(%ebp), %eax
	pushl	%eax
	movl	$0x80000001, %eax		# PG, PE
	movl	%eax, %cr0
	lret
.code64
long:
	movl	%esi, %esi			# clear the upper halves
	movl	%ebp, %ebp
	leaq	0x200000(%rbp), %rax		# the kernel, behind the stub's space
	jmp	*%rax
.balign 8
gdt:	.quad	0, 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdtr:	.word	31
	.long	0
