import { expect, it } from 'vitest'
import { FeedEvent } from '../../src/event.ts'
import { rowFormat } from '../../src/row-format.ts'

it('keeps every character of a text key, and every digit of a number', () => {
  const id = 'a": 1, \\": b'
  const event = new FeedEvent(
    'input',
    {
      seq: 1n,
      xid: 1n,
      location: 'public.things',
      operation: 'create',
      // As jsonb writes it: with a space behind the names.
      key: `{"id": ${JSON.stringify(id)}, "n": 9007199254740993}`,
      oldKey: null,
      before: null,
      after: null,
      atMicros: '1',
    },
    {
      name: 'things',
      location: 'public.things',
      operations: new Set(['create']),
      columns: null,
      schema: null,
      format: rowFormat(['n'], true),
    },
    'trigger',
  )
  expect(event.key).toEqual({ id, n: '9007199254740993' })
})
