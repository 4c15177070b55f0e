"""Ways to start code with an empty context, or where the test's is not to be found."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator

# In a task of the test's own loop


async def as_task(door, text):
    return await asyncio.create_task(door(text), context=contextvars.Context())


async def as_application(door, text):
    async def application(scope, receive, send):
        await receive()
        try:
            await send({"found": await door(text)})
        except Exception as err:
            await send({"error": err})

    peer = ApplicationCommunicator(application, {"type": "http"})
    await peer.send_input({"type": "http.request"})
    told = await peer.receive_output(30)
    await peer.wait(30)
    if "error" in told:
        raise told["error"]
    return told["found"]


async def as_task_of_a_task(door, text):
    async def inner():
        return await asyncio.create_task(door(text), context=contextvars.Context())

    return await asyncio.create_task(inner(), context=contextvars.Context())


IN_TASKS = {"task": as_task, "application": as_application, "task_of_a_task": as_task_of_a_task}


# In threads that know nothing of the test


def run(door, text):
    return asyncio.run(door(text))


def wait(door, text):
    return async_to_sync(door)(text)


def in_empty_task(door, text):
    return asyncio.run(as_task(door, text))


def in_plain_thread(function, *args):
    outcome = []

    def work():
        try:
            outcome.append((function(*args), None))
        except BaseException as err:
            outcome.append((None, err))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def in_pool_of_threads(function, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


async def in_executor_of_the_loop(function, *args):
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


LOOPS = {"run": run, "async_to_sync": wait, "empty_task": in_empty_task}
THREADS = {"thread": in_plain_thread, "pool": in_pool_of_threads}
