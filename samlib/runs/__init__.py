"""Runs: which ones the book needs, and doing those that have no record yet, on whatever machine is at hand."""

from samlib.runs.plan import REPOSITORY as REPOSITORY
from samlib.runs.plan import Run as Run
from samlib.runs.plan import needed as needed
from samlib.runs.plan import pending as pending
from samlib.runs.plan import store_for as store_for
from samlib.runs.plan import unique as unique
from samlib.runs.schedule import start as start
from samlib.runs.work import do as do
