#!/usr/bin/env python3
"""Versioned pointers, executable: an oracle that shares no line and no idea with the index in src/index.

Per address a dictionary {label: slot}; a delete marks, visits addresses one by one, and splices. Redirect-on-write:
only versions without children are written.

Reads a trace on standard input, one operation a line as JSON, and prints the pointers after each "dump":

    ["snapshot", label]        the label freezes; the next label is its child
    ["clone", label]           the next label is a child of a frozen one
    ["write", label, address, value]
    ["delete", [label, ...]]   and all of it is finished at once
    ["dump"]                   -> {"address": {"label": value}}
"""
import json, sys

class Store:
    def __init__(s, naddr):
        s.naddr = naddr
        s.parent = {1: 0}; s.kids = {0: {1}, 1: set()}
        s.visible = {1}
        s.ro = set()                 # frozen versions
        s.ptr = {a: {} for a in range(naddr)}     # A -> {label: slot}
        s.bylabel = {1: set()}       # label -> {A}     (secondary index)
        s.slot = {}; s.nslot = 0
        s.nextv = 2
        s.zombies = {}               # label -> iterator of addresses still to visit
        s.scanned = 0
    # -- tree helpers
    def path(s, v):
        while v: yield v; v = s.parent[v]
    def ghost(s, v): return v != 0 and v not in s.visible
    def owner(s, v, A):
        p = s.ptr[A]
        for u in s.path(v):
            if u in p: return u
        return 0
    def read(s, v, A):
        o = s.owner(v, A)
        return s.slot[s.ptr[A][o]] if o else None
    def heirs(s, v, A):
        "visible versions strictly below v that resolve through v at A"
        n, p, st = 0, s.ptr[A], list(s.kids[v])
        while st:
            u = st.pop()
            if u in p: continue
            n += u in s.visible
            st += s.kids[u]
        return n
    # -- pointer primitives
    def put(s, A, v, slot): s.ptr[A][v] = slot; s.bylabel[v].add(A)
    def drop(s, A, v):
        slot = s.ptr[A].pop(v); s.bylabel[v].discard(A); del s.slot[slot]
    def relabel(s, A, v, u):
        s.ptr[A][u] = s.ptr[A].pop(v); s.bylabel[v].discard(A); s.bylabel[u].add(A)
    def orphan_check(s, A, v):
        "v may have stopped inheriting at A: kill the nearest ghost pointer above if nobody inherits it"
        u = s.parent[v]
        while u and s.ghost(u) and u not in s.ptr[A]: u = s.parent[u]
        if u and s.ghost(u) and not s.heirs(u, A): s.drop(A, u)
    # -- external operations
    def new(s, parent):
        v = s.nextv; s.nextv += 1
        s.parent[v] = parent; s.kids[v] = set(); s.kids[parent].add(v)
        s.bylabel[v] = set(); s.visible.add(v); return v
    def clone(s, parent):            # writable or read-only child of any visible version
        return s.new(parent)
    def write(s, v, A, val):
        """Returns label actually written (isolates children lazily, as in the 2008 prototype)."""
        if s.kids[v]:
            # would any child see the new data?  only then must v be split
            if not (v in s.ptr[A] and all(k in s.ptr[A] for k in s.kids[v])):
                n = s.new(v)                      # 'implicit version': the name moves to n
                s.visible.discard(v)              # old label becomes a ghost
                s.moved(v, n); old = v; v = n
                # v turned ghost: at *every* address v itself stopped being a reader, but n inherits
                # everything v had, so no pointer can become an orphan here
        slot = s.nslot; s.nslot += 1; s.slot[slot] = val
        had = v in s.ptr[A]
        if had: s.drop(A, v)
        s.put(A, v, slot)
        if not had: s.orphan_check(A, v)
        return v
    def moved(s, old, new): pass
    # -- deletion: mark, per-address pass, splice
    def begin_delete(s, v):
        s.visible.discard(v)
        s.zombies[v] = None
    def pass_addr(s, v, A):
        s.scanned += 1
        p = s.ptr[A]
        if v in p:
            k = s.kids[v]
            if not s.heirs(v, A): s.drop(A, v)
            elif len(k) == 1: s.relabel(A, v, next(iter(k)))
        else:
            s.orphan_check(A, v)
    def candidates(s, v):
        "addresses the pass must visit: v's own labels plus labels of the ghost chain directly above"
        c = set(s.bylabel[v]); u = s.parent[v]
        while u and s.ghost(u): c |= s.bylabel[u]; u = s.parent[u]
        return c
    def splice(s, v):
        "v carries no pointers any more (or keeps them as a legal ghost with >= 2 children)"
        k = s.kids[v]
        if len(k) >= 2: return
        assert not s.bylabel[v], "splice of labelled version"
        par = s.parent[v]
        s.kids[par].discard(v)
        for c in k: s.parent[c] = par; s.kids[par].add(c)
        for d in (s.parent, s.kids, s.bylabel): del d[v]
        if par and s.ghost(par) and len(s.kids[par]) < 2 and par not in s.zombies:
            s.delete_now(par)        # ghost parent lost its reason to exist: same procedure
    def delete_now(s, v):
        s.begin_delete(v)
        for A in sorted(s.candidates(v)): s.pass_addr(v, A)
        del s.zombies[v]
        s.splice(v)
    def delete_batch(s, vs):
        vs = sorted(vs, key=lambda v: len(list(s.path(v))))
        for v in vs: s.visible.discard(v); s.zombies[v] = None
        cand = set().union(*(s.candidates(v) for v in vs))
        done = False
        while not done:                           # relabelling may push work onto a lower zombie
            for A in sorted(cand):
                for v in vs: s.pass_addr(v, A)    # parents first
            new = set().union(*(s.candidates(v) for v in vs)) - cand
            done = not new; cand |= new
        for v in vs: del s.zombies[v]
        for v in reversed(vs):                    # children first
            if v in s.parent and len(s.kids[v]) < 2: s.delete_now(v)

    def check(s):
        for v in s.parent:
            if s.ghost(v): assert len(s.kids[v]) >= 2, ('T1', v)
        for A in range(s.naddr):
            for l in s.ptr[A]:
                assert l in s.parent, 'P1'
                assert l in s.visible or s.heirs(l, A), ('P2', l, A)
            owners = {s.owner(v, A) for v in s.visible} - {0}
            assert len(s.ptr[A]) == len(owners), ('P3', A)


def main():
    store = Store(int(sys.argv[1]))
    for line in sys.stdin:
        op, *args = json.loads(line)
        if op in ("snapshot", "clone"): store.new(args[0])
        elif op == "write":
            assert not store.kids[args[0]]
            store.write(*args)
        elif op == "delete": store.delete_batch(args[0])
        else:
            store.check()
            pointers = {A: {l: store.slot[p] for l, p in store.ptr[A].items()} for A in range(store.naddr)}
            print(json.dumps(pointers, sort_keys=True))


if __name__ == "__main__":
    main()
