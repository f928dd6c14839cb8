const key = "presence-demo.people";

/** The most people in the list. Whoever was added first makes room. */
const most = 40;

const first = ["alice", "bob", "carol"];

/** The names of whom this browser watches. All its tabs share them, so they find each other. */
export class Roster {
  names: string[];

  /** changed is called after each change, of another tab too. */
  constructor(private readonly changed: () => void) {
    this.names = read();
    window.addEventListener("storage", (event) => {
      if (event.key === key || event.key === null) {
        this.names = read();
        this.changed();
      }
    });
  }

  add(name: string): void {
    if (!this.names.includes(name)) {
      this.keep([...this.names, name].slice(-most));
    }
  }

  remove(name: string): void {
    this.keep(this.names.filter((other) => other !== name));
  }

  private keep(names: string[]): void {
    this.names = names;
    try {
      localStorage.setItem(key, JSON.stringify(names));
    } catch {
      // Without storage the list is that of this tab.
    }
    this.changed();
  }
}

function read(): string[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(key) ?? "null");
    if (Array.isArray(kept)) {
      return kept.filter((name): name is string => typeof name === "string").slice(-most);
    }
  } catch {
    // There is no storage, or somebody else wrote to it.
  }
  return [...first];
}
