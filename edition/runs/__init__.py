"""Runs: which ones the book needs, and doing those that have no record yet, on whatever machine is at hand."""

from edition.runs.plan import REPOSITORY as REPOSITORY
from edition.runs.plan import Run as Run
from edition.runs.plan import needed as needed
from edition.runs.plan import pending as pending
from edition.runs.plan import store_for as store_for
from edition.runs.schedule import start as start
from edition.runs.work import do as do
