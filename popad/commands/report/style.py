"""How the page looks: by day and by night, on a desk, on a phone and on paper."""

STYLE = """
:root { color-scheme: light dark;
  --back: #f5f4f0; --card: #fff; --ink: #1c2126; --soft: #626a72; --line: #e2e0d8;
  --c0: #2763c4; --c1: #c8511b; --c2: #7a4fb5; --tint: #2763c420; --err: #b3261e; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root {
  --back: #12151a; --card: #1b2027; --ink: #e7e9ec; --soft: #9aa4af; --line: #2d343d;
  --c0: #6ea8ff; --c1: #ff9a62; --c2: #b898f5; --tint: #6ea8ff2a; --err: #ff8a80; --warn: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 76rem; background: var(--back); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.6rem; letter-spacing: -.01em; }
h2 { margin: 0 0 .6rem; font-size: 1rem; }
p { margin: .2rem 0; } .soft, th, .axis { color: var(--soft); font-size: .85rem; }
section, .tile { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1rem; }
.tile { padding: .8rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .7rem;
  margin: 1.2rem 0 .7rem; }
.tile b { display: block; font-size: 1.3rem; line-height: 1.2; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile.bad b { color: var(--err); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .7rem;
  grid-auto-flow: dense; margin-top: .7rem; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.wide { grid-column: 1 / -1; }
svg { display: block; width: 100%; height: 4.5rem; border-bottom: 1px solid var(--line); overflow: hidden; }
.c0 svg { fill: var(--c0); } .c1 svg { fill: var(--c1); } .c2 svg { fill: var(--c2); }
rect:hover { fill: var(--ink); fill-opacity: 1; }
line { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; }
.plot { margin: .9rem 0 0; } .plot:first-of-type { margin-top: 0; }
.plot > p { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; }
.axis { position: relative; display: flex; justify-content: space-between; min-height: 1.4em; }
.axis span[style] { position: absolute; white-space: nowrap; }
.week { display: grid; grid-template-columns: 2.4rem 1fr; } .week svg { height: 15rem; border: 0; }
.days { display: grid; grid-template-rows: repeat(7, 1fr); align-items: center; color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th { text-align: left; font-weight: 500; } th, td { padding: .28rem .4rem; vertical-align: top; }
td { border-top: 1px solid var(--line); }
td:not(:first-child), th:not(:first-child) { text-align: right; white-space: nowrap; }
td:first-child { min-width: 8rem; }
td.share { background: linear-gradient(to right, var(--tint) var(--share), transparent 0); border-radius: .2rem; }
details { border-top: 1px solid var(--line); padding: .5rem 0; } summary { cursor: pointer; }
.err { color: var(--err); font-weight: 600; } .warning { color: var(--warn); font-weight: 600; }
pre { white-space: pre-wrap; margin: .6rem 0; font: inherit; max-width: 46rem; }
code { font-size: .85rem; color: var(--soft); }
@media print { body { background: none; } section, .tile { break-inside: avoid; } }
"""
