"""What a run comes to: measured, drawn, and written as one page."""

from retrograde.report._figure import draw_figure as draw_figure
from retrograde.report._files import numbers as numbers
from retrograde.report._files import plain as plain
from retrograde.report._files import read_json as read_json
from retrograde.report._files import save_arrays as save_arrays
from retrograde.report._files import write_file as write_file
from retrograde.report._files import write_json as write_json
from retrograde.report._html import html_figure as html_figure
from retrograde.report._html import html_page as html_page
from retrograde.report._html import html_table as html_table
from retrograde.report._html import svg_style as svg_style
from retrograde.report._measures import SAMPLERS as SAMPLERS
from retrograde.report._measures import Measures as Measures
from retrograde.report._measures import measure as measure
from retrograde.report._page import write_page as write_page
from retrograde.report._record import Record as Record
from retrograde.report._record import read_record as read_record
