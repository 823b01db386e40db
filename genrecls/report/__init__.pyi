from .write import write_audit as write_audit
from .write import write_report as write_report
