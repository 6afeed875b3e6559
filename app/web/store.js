// State that several components share: a value, who watches it, and a hook. What is one person's goes when they leave.
import { useEffect, useReducer } from "./vendor/preact-htm.js";

const ofAPerson = [];

// A store whose content belongs to who is signed in.
export function personal(initial) {
  const made = store(initial);
  ofAPerson.push(() => made.set(initial));
  return made;
}

export function forgetPerson() {
  for (const forget of ofAPerson) forget();
}

export function store(initial) {
  let state = initial;
  const watchers = new Set();
  return {
    get: () => state,
    // Takes the changed fields, or a function from the present state to them.
    set(change) {
      state = { ...state, ...(typeof change === "function" ? change(state) : change) };
      for (const watcher of watchers) watcher();
    },
    use() {
      const [, again] = useReducer((count) => count + 1, 0);
      useEffect(() => {
        watchers.add(again);
        again(); // it may have changed between the first drawing and now
        return () => watchers.delete(again);
      }, []);
      return state;
    },
  };
}
