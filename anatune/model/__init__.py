"""The analytical model: from a profile and a workload to a plan, in closed form (rank 4).

Low, Igual, Smith and Quintana-Orti, "Analytical Modeling Is Enough for High-Performance BLIS",
ACM TOMS 43(2):12, 2016, doi 10.1145/2925987, is the source unless a function names another;
the clamping to the problem's extents follows arXiv 2304.14480. The formulas are taken from the
authors' public codes (adcastel/CGO_GEMM_ukernels_exo_artifact, adcastel/TVM_quantized) and checked
against LLVM Polly's, hence steps and no equation numbers. C[m,n] = A[m,k] B[k,n] throughout.

The paper's letters are used in this folder only; elsewhere the words on the right.

    m n k       extents of the product
    mr nr       register tile                            MicroTile.mr, .nr
    mc nc kc    cache blocks                             CacheBlocks.mc, .nc, .kc
    A_c B_c     packed block mc x kc, packed panel kc x nc
    A_r B_r     micro-panels mr x kc of A_c and kc x nr of B_c
    S           bytes of one element of A and B          element_bytes
    Nvec        elements in one vector                   CoreKind.lanes(element_bytes)
    nv          vectors across the tile, nr / Nvec       MicroTile.vectors
    L           cycles from an FMA to its result         CoreKind.fma_latency_cycles
    N           FMAs issued per cycle                    CoreKind.fma_per_cycle
    R           vector registers                         CoreKind.vector_registers
    W_i N_i C_i ways, sets and line of cache level i     CacheLevel.ways, .sets, .line_bytes
    C_X, C_Xi   ways of L1, of level i, that X occupies  (C_Ar: ways of L1 that A_r occupies)
    T           threads that share the loop over m

The paper stores C by columns, so its vectors lie along mr; here C is stored by rows and they lie
along nr. Which operand stays (B_r in L1, A_c in L2, B_c in L3) is the same in both.

In the order in which a plan comes about: `registers` and `cache_blocks` hold the paper's steps,
`machine` what the profile says with a figure for each unknown; `traffic` (with `residency`),
`work`, `copying` and `energy` count, `estimate` makes time of it; `shapes` lists the plans,
`candidates` orders them; `explain` (with `reasons` and `constant_b`) and `why_not` give account.
"""
