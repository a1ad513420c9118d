/** A statement by name: prepared once a connection, and found by its name in logs, traces and error messages. */
export interface Statement {
  /** Lower-case words joined by `_`; unique within a package. */
  readonly name: string
  readonly text: string
  /** False: planned anew each time, for the tables as they are then and the values that it is given. @default true */
  readonly prepared?: boolean | undefined
}

/** A row as an array in the order of the select list, as cheap as the driver gives it. */
export type Row = readonly unknown[]

/** Anything that runs a statement and gives its rows as arrays: a session, a runner. */
export interface QueryRows {
  query<R extends Row = Row>(statement: Statement, values: unknown[]): Promise<R[]>
}
